package sqlop

// Split is splitSQL, for the tests.
var Split = splitSQL
