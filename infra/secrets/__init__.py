"""What secrets there are: names, references and how a new value is made; never a value (SEC-4)."""
