"""Sample logs written for streamlab, and the generator of large ones (`data.generate`)."""
