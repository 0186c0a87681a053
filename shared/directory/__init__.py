"""Who knows instances and who may do what. Behind `directory.Directory`; our own tables are one implementation."""
