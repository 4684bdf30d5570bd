// Package awsmeter counts what AWS bills: every call of the SDK clients of a
// process, by service and operation, and by the run and task instance it was made
// for.
//
// Package sdkmeter puts the counter into a configuration; it sees what the clients
// made from it send and receive. It needs no change in the code that calls: whom a call
// is for is read from the keys and messages it carries (package awslabel), or from
// a label of its context. A call for several instances is shared between them.
//
// Counted per operation are calls, repeated tries, throttled and refused ones,
// bytes, time, DynamoDB's capacity units as the service reports them
// (ReturnConsumedCapacity, which is free) and SQS's requests of 64 KB. What AWS
// does on its own and bills all the same (the receives and deletes of an event
// source mapping, the invocation) is added by Delivered and Invoked.
//
// A function flushes its meter into one log line per invocation (Line): no write
// unit, no call, about 150 bytes a task, which is $0.08 per million. Package
// costreport adds up such lines into what a run cost.
package awsmeter
