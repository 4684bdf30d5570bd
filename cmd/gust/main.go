// Command gust schedules and runs Airflow DAGs; as airflow it answers to
// Airflow's own command line.
//
// With the build tag aws it can use AWS's secret managers too, for 8 MB more.
package main

import (
	"context"
	"os"

	"github.com/gustflow/gust/internal/cli"
)

func main() {
	env := cli.OSEnv()
	withAWS(&env)
	os.Exit(cli.Main(context.Background(), env))
}
