"""One technique a file, under the name of its paper."""
