#error "simt cannot run cooperative groups"
