"""Who else acts on a simulated account: a made-up trader, other people, the back office."""
