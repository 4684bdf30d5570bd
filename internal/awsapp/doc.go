// Package awsapp wires Gust on AWS: what localapp is for one machine. It reads
// where things are from the environment (package awsenv) and opens the ports on
// them, each when it is first used, so that a function pays at its cold start
// for what it needs only: opening makes no network call.
//
// Package awsworker adds what runs tasks.
package awsapp
