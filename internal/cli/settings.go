package cli

import "github.com/spf13/cobra"

func (c *command) settingsCommands() []*cobra.Command { return nil }
