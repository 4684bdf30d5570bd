// Command scheduler is the Lambda function that decides: the minute's tick
// creates due runs and looks for what was lost, events of the queues step runs.
package main

import "github.com/gustflow/gust/internal/lambdaentry/schedulerfn"

func main() { schedulerfn.Run() }
