package cli

import "github.com/spf13/cobra"

func (c *command) dagsCommands() []*cobra.Command { return nil }
