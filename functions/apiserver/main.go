// Command apiserver is the Lambda function that serves HTTP through a Function URL:
// version and health, until the REST API is there.
package main

import "github.com/gustflow/gust/internal/lambdaentry/apifn"

func main() { apifn.Run() }
