"""PostgreSQL: one repository per noun, SQL in files, and the migrations."""
