"""Groups as operators see them: who reads which streams, how far, and who holds back trimming."""
