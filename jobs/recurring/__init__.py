"""What recurs: entries, how Redis stores them, and the runs they have had."""
