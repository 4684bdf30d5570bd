// Package callback runs callbacks and notifiers: Python callables and notifier
// classes, shell commands, webhooks, Slack messages and e-mails.
//
// They run at least once: in the worker right after the outcome, or in the
// control plane when the worker was lost or the callback is a DAG's. Each event
// has a key that stays the same over repetitions; a Runner runs an event once
// per process, and passes the key on (GUST_IDEMPOTENCY_KEY, the header
// Idempotency-Key, Message-ID) so that receivers can do the same. Errors are
// logged and change nothing.
package callback
