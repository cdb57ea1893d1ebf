"""What people see of a run: live progress, tables, sentences, the report page."""
