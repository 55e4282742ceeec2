"""What attackers and bad luck do."""
