// Package sim has the simulation: long histories of processes that take locks from each other over a network that loses, delays,
// doubles and reorders, all drawn from a seed and run in fake time, and a checker that watches them. It is all tests.
//
//	go test ./internal/sim                                    many seeds, each another history
//	go test ./internal/sim -run TestHistory -seed=N -v        the history of one seed again
//	go test ./internal/sim -run TestHistory -seconds=600      as many seeds as fit into that time
//	go test ./internal/sim -run TestMixedCalls -seed=N -v     calls of every kind, whose contexts end at every moment
//	go test ./internal/sim -run TestStoppedWaiters -seed=N -v stopped waiters, and for how long nobody held the lock
//
// The seed decides what goes wrong, who wants what and for how long. It does not decide which of two goroutines that
// could both run does so first, so a failure may need its seed a few times: -count=10.
package sim
