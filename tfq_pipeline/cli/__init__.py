"""The command line: one verb a module, each flags to one call and its result to text or JSON."""
