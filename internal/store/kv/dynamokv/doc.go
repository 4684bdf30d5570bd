// Package dynamokv keeps items in one DynamoDB table, on demand.
//
// The caller makes the client (region, credentials, endpoint, middleware that counts calls); this package turns the
// operations of package kv into requests and answers into its errors. Every name and value of an expression is an alias,
// so that no content can change its meaning.
//
// # Layout
//
// An item is its attributes, beside "pk" and "sk", "gsi1pk" and "gsi1sk" for its entry in index gsi1 (both or none), and
// "ttl" for its expiry. A "ttl" that is a string means none: it is written by the one operation that DynamoDB has no
// expression for, an update that creates an item although it only removes attributes, and DynamoDB never collects by it.
//
// # Repetition
//
// The client's own retries are off for every request, because a conditional write that is repeated blindly reports a
// failed condition after it was applied. Instead
//
//   - what was certainly not done (throttling, a conflict with a transaction, a connection that was never made) is
//     repeated after a jittered delay, and reported as [kv.ErrThrottled] or [kv.ErrTransactionConflict] when that does
//     not help;
//   - reads are repeated after any passing error, and BatchGet until no key is left unprocessed;
//   - transactions always carry a token (the caller's or one of their own) and are repeated under it;
//   - a single write whose outcome is unknown (a timeout, an error 500, a connection lost) is repeated only when the
//     write makes its own condition false, as a claim or a step of a version does: then it cannot be applied twice. When
//     the repetition finds the condition false, nobody can tell whether the first try or somebody else made it so: the
//     error is a [kv.ErrUnavailable] with NotApplied false, from which errors.As still gets the
//     [*kv.ConditionFailedError] with the item, so that a caller who writes an identity (a claim id, a version) sees
//     whether it is its own.
//
// An answer that a table does not exist or may not be used is [kv.ErrUnavailable], never "not found".
package dynamokv
