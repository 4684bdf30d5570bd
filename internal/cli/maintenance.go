package cli

import "github.com/spf13/cobra"

func (c *command) maintenanceCommands() []*cobra.Command { return nil }
