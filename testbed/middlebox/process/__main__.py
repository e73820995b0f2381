from testbed.middlebox.process.engine import main

main()
