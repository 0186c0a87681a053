"""Everything that starts Safekeep somewhere. May import all other packages."""
