"""What sources are made of that take messages from a broker: one consumer for each, and which messages are done with."""
