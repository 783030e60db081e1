"""The commands for people: `run`, `check` and `clean`; the rules' own stand behind `stage`."""
