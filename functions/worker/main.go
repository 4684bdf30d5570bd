// Command worker is the Lambda function that runs tasks: one dispatch of its
// Airflow queue per invocation. It lies in the zip of a python3.13 function as
// gust-worker and is started through AWS_LAMBDA_EXEC_WRAPPER in place of the
// Python runtime's own program, so that tasks have an interpreter and the worker
// speaks to the Runtime API itself.
package main

import "github.com/gustflow/gust/internal/lambdaentry/workerfn"

func main() { workerfn.Run() }
