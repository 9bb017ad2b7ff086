package numa

// Settle keeps the calling thread, and threads that it starts from now on, on the
// processors of the i-th of n ranks that share this machine, and returns how many these
// are. A single rank has all, and more ranks than processors are left to the system.
func Settle(i, n int) (threads int, err error) {
	m := Here()
	if n == 1 {
		return max(1, len(m.CPUs())), nil
	}
	mine := m.Place(i, n)
	if len(mine) == 0 {
		return 1, nil
	}
	return len(mine), Pin(mine)
}
