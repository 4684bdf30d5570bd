// Command taskevents is the Lambda function that hears of dispatches which nobody
// else can report on: messages in dead-letter queues, failed asynchronous
// invocations, ECS tasks that stopped. Each is failed or retried with its cause.
package main

import "github.com/gustflow/gust/internal/lambdaentry/eventsfn"

func main() { eventsfn.Run() }
