"""What sources are made of that others send lines to: sockets, framing, HTTP, and the buffer between sender and run."""
