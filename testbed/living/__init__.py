"""Labs that outlive the command that started them, each kept by a holder process."""
