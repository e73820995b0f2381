from testbed.emulator.process import main

main()
