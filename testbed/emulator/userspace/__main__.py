from testbed.emulator.userspace.process import main

main()
