// Command dagprocessor is the Lambda function that registers the DAG files of a
// bucket: it hears of changes through a queue and looks by itself every few minutes,
// has the function dagparser parse what changed, and validates, versions and stores
// what that returns.
package main

import "github.com/gustflow/gust/internal/lambdaentry/processorfn"

func main() { processorfn.Run() }
