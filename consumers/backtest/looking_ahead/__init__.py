"""Whether a strategy uses what lies ahead: `arrays` asks in every run, `cutting` runs it again."""
