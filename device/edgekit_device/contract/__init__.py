"""What host and board promise each other: documents, topics, ids and errors. Standard library only."""
