"""One file an op: its public function, checks, fake kernel and autograd formula."""
