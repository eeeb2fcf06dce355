"""`fasttail study`: samplers x heads x seeds, the paper's central comparison, in one command."""
