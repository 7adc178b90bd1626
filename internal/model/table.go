package main

import "hash/maphash"

// chunk is how many states are stored in one piece, so that a growing table does not copy them.
const chunk = 1 << 16

// table holds every state that was seen, whole: two states are never taken for one because their hashes are equal, as they are in
// searches that store hashes alone.
type table[S comparable] struct {
	states  [][]S
	parents []uint32
	slots   []uint32 // index of a state and 1; zero if empty
	seed    maphash.Seed
}

func newTable[S comparable]() *table[S] {
	return &table[S]{slots: make([]uint32, 1<<12), seed: maphash.MakeSeed()}
}

func (t *table[S]) len() int { return len(t.parents) }

func (t *table[S]) at(i uint32) S { return t.states[i/chunk][i%chunk] }

func (t *table[S]) parent(i uint32) uint32 { return t.parents[i] }

// add gives the index of a state, and whether it is new. The parent is where a new one was come from.
func (t *table[S]) add(s S, parent uint32) (index uint32, isNew bool) {
	slot := t.slotOf(s)
	if found := t.slots[slot]; found != 0 {
		return found - 1, false
	}
	index = uint32(len(t.parents))
	if index%chunk == 0 {
		t.states = append(t.states, make([]S, 0, chunk))
	}
	last := len(t.states) - 1
	t.states[last] = append(t.states[last], s)
	t.parents = append(t.parents, parent)
	t.slots[slot] = index + 1
	if 2*len(t.parents) > len(t.slots) {
		t.grow()
	}
	return index, true
}

// find gives the index of a state that is there.
func (t *table[S]) find(s S) uint32 { return t.slots[t.slotOf(s)] - 1 }

// slotOf is where a state is, or has its place.
func (t *table[S]) slotOf(s S) uint64 {
	mask := uint64(len(t.slots) - 1)
	slot := maphash.Comparable(t.seed, s) & mask
	for t.slots[slot] != 0 && t.at(t.slots[slot]-1) != s {
		slot = (slot + 1) & mask
	}
	return slot
}

func (t *table[S]) grow() {
	t.slots = make([]uint32, 2*len(t.slots))
	for i := range t.parents {
		t.slots[t.slotOf(t.at(uint32(i)))] = uint32(i) + 1
	}
}
