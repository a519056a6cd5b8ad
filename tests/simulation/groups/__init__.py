"""Consumer groups under every fault that can be injected on one machine."""
