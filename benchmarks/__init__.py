"""Side by side with the peers, on one machine and one server: `make bench`."""
