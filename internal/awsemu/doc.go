// Package awsemu is Gust's part of AWS in one process, with a clock of its own and
// published latencies: what a deployment would take is computed from the real
// handlers on the real adapters, at the wire of whose SDK clients it answers.
//
//	handlers, engine, store, adapters      real
//	SDK clients: signing, JSON, retries    real
//	the wire (aws.HTTPClient)              Cloud
//	DynamoDB                               Table: conditions, transactions, indexes, units; limits of a new table
//	                                       (4,000 writes a second) and of a partition (1,000)
//	SQS and event source mappings          Queue: time from send to handler, batches, ramp (5, then +300 a minute) or
//	                                       provisioned pollers, visibility, redelivery, duplicates
//	Lambda                                 Function: environments, cold starts, 1,000 new ones in 10 s
//	EventBridge                            AddRate
//
// Latencies are drawn from distributions through the published p10, p50, p90 and
// p99 of aws-latency.json; GUST_LATENCY names another file. Each draw depends on
// the seed and on what it is for, not on the order of goroutines. What no table
// gives is assumed, and named in latency.go.
//
// The clock is package time's, run inside a bubble of testing/synctest: it stands
// still while anything computes and jumps to the next timer when nothing can go on.
// Computing is therefore charged by Options.CPU.
//
// Figures from here are emulated, never measured on AWS, and always called so.
package awsemu
