"""Whether a strategy uses what lies ahead: `arrays` asks in every run. `sweep.cutting` runs it
again with its input cut."""
