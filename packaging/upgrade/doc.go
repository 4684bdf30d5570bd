// Package upgrade holds the tests that a new version of Gust breaks no run under
// way, and that the version before can have its data back (docs/upgrading.md):
//
//   - TestOldNewOld: the program of an earlier commit starts runs in a home, this
//     one goes on with them, the earlier one ends them, and this one looks again.
//   - TestStoredHome: the same forward from a home that is committed, for checkouts
//     without history and for releases long gone.
//   - TestStoredTable: items of DynamoDB that an earlier version left behind in the
//     middle of runs, with its messages in flight.
//   - TestStoredMessages: every kind of message that an earlier version may have
//     sent is understood, and says what it said.
package upgrade
