"""One job's directory: where each thing lies, how attempts append to it, how ledgers are read back."""
