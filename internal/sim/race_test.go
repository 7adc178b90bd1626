//go:build race

package sim

// raced tells that the race detector is on. Bubbles with thousands of timers then crash the runtime now and then (go1.26.8, in its timers).
const raced = true
