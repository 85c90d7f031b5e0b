"""What `FollowSource` is made of: which content is in which file, and how far each is read."""
