VALUE = "imported beside it"
