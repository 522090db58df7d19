"""The paper's networks (Section 3.5), one a file."""
