//go:build !linux && !darwin

package main

import "os"

// columnsOf does not know here how to ask a terminal for its width.
func columnsOf(*os.File) int { return 0 }
