"""What the last release had under another name, for the length of this one."""
