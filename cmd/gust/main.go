// Command gust schedules and runs Airflow DAGs; as airflow it answers to
// Airflow's own command line.
package main

import (
	"context"
	"os"

	"github.com/gustflow/gust/internal/cli"
)

func main() { os.Exit(cli.Main(context.Background(), cli.OSEnv())) }
