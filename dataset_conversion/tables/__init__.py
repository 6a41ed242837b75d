"""Tables of cases as people and spreadsheets write them."""
