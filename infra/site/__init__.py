"""What the site play does on the controller: reads the stack, bootstraps the record, renders host files."""
