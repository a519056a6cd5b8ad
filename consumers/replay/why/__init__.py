"""Why an entry, or a position's end, is there: causes, effects, and the story of a ticket."""
