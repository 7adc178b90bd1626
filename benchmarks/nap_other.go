//go:build !linux

package main

import "time"

// nap is as exact as the runtime is.
func nap(d time.Duration) { time.Sleep(d) }
